"""Bundle: one model that predicts anywhere."""
