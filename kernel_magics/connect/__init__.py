"""Finding, starting and reaching kernels: each way ends in something a transport is made of."""
