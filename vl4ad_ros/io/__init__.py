"""Files, pictures, image messages and bags."""
