"""Training by epochs: one loop for the dense head, fine-tuning and baselines.

`loop.train` asks a trainee for the steps of an epoch and for its validation; `schedules` decides between two epochs.
`log` is the training log, `callbacks` what is called after every epoch, `checkpoints` what a training resumes from.
`network` holds the gradient step; `trainee`, `source`, `targets` and `mixing` are what is common to networks that are
trained on images.
"""
