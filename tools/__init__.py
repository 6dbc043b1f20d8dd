"""What keeps this repository: not part of the package."""
