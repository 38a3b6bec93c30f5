"""The methods, a module each, named as in the study file.

A method is a function `unlearn(task, *, hyperparameter, ...) -> Unlearned`, whose keyword arguments are the
parameters of `search_spaces/<method>.yaml`. Adding a method is adding these two files.
"""
