"""A detector in one file that runs without this package."""
