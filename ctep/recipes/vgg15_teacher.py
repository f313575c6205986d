"""`vgg15-teacher`: the teacher of distilled networks, trained by backprop."""

from ._augmented import VGG16, teacher

RECIPE = teacher("vgg15-teacher", VGG16, 1, "cifar100", published="70.96 %")
