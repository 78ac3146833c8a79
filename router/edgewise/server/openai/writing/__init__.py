"""The texts of a request while they are written, and their prompts' scores."""
