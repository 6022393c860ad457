"""What a user may ask for: modes, presets, and the help about them. No TensorFlow here."""
