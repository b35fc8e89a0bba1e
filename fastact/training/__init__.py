"""What a training loop asks of its activations: gains, saturation, clipped gradients."""
