"""Configuration: options, environment variables and the project file."""
