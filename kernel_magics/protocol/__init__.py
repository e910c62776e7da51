"""What messages mean. Standard library only; never waits and has no clock of its own."""
