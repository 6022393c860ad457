"""Settings: Config, Spec, flags, and the errors of a user. No TensorFlow here."""
