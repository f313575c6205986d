"""`vgg19-teacher`: the teacher of distilled networks, trained by backprop."""

from ._augmented import VGG19, teacher

RECIPE = teacher("vgg19-teacher", VGG19, 2, "cifar10", published="93.37 %")
