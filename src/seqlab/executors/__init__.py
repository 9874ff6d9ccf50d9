"""Where stages run. An executor has two methods; graph, order and lock file are none of its business."""
