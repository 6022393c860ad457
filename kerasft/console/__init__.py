"""The console: what is printed, and what of TensorFlow's notices is not."""
