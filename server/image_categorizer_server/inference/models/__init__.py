"""The model repository, the loaded models, and the version that answers."""
