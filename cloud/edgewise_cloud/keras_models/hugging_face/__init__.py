"""GPT-2 in the layout of Hugging Face's transformers: config, tensors, vocabulary."""
