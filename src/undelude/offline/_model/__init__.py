"""What is fitted: the latent, the mechanisms and what each of them remembers."""
