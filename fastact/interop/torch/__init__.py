"""PyTorch: custom operators with autograd, the functions that call them, and modules."""
