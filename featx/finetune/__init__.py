"""Backbone and head as one Keras model, trained end to end."""
