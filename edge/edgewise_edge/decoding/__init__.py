"""From a prompt to text: the tokenizer, the token loop, the sampler, stop strings."""
