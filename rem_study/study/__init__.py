"""One study from launch to picture: claimed, run or resumed, recorded, written down; and what asks after it.

It puts the layers below together, and leaves each question (what next, which wins, how it looks) to its layer.
"""
