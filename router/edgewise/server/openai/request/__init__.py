"""What requests hold, for all endpoints: fields, prompts, messages."""
