"""Encoders: images to latents and back."""
