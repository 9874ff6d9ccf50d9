"""A folder a task, found by its name; nothing else in seqlab lists them.

    train.py   class Train    its data, and its loss where a family is fitted in closed form   run by training stages
    loss.py    class Loss     its loss on batches of tensors, and how a teacher softens it      where steps are taken
    judge.py   class Judge    its scores, its controls, and what shall be shown                 run by evaluation
    draw.py    class Draw     pictures of what was shown, and its part of the report            run by drawing
    peers.py   peers()        systems that were trained elsewhere, where there are any          run with controls

A task that is trained has `train.py`; one that is judged has `judge.py`, which says whose model answers it.
"""
