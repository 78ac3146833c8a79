"""The Keras GPT-2 as compiled programs over weights and caches in the backend's memory."""
