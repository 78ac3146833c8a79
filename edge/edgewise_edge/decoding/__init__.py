"""From a prompt to text: tokenizer, token loop, sampler and stop strings."""
