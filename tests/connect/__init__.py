"""Connection files, finding kernels and ending them."""
