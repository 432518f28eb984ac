"""Latents and traits of people: linear, logistic and survival models, and how well they predict."""
