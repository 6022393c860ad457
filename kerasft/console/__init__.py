"""The console: printed lines, tables and progress bars, and a filter for TensorFlow's known notices."""
