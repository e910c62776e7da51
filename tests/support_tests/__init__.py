"""The infrastructure of the tests is tested as well: it has to be able to fail."""
