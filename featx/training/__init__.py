"""Training by epochs: one loop for everything that is trained so, the dense head and fine-tuning.

`loop.train` asks a trainee for steps and for its validation, `schedules` decides between two epochs, `checkpoints` and
`journal` write down what it resumes from and what people read, `network` holds the gradient step.
"""
