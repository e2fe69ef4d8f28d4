"""The Hugging Face Hub: what may go there, what is there, and how it gets there and away."""
