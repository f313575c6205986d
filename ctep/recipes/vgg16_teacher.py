"""`vgg16-teacher`: the teacher of distilled networks, trained by backprop."""

from ._augmented import VGG16, teacher

RECIPE = teacher("vgg16-teacher", VGG16, 2, "cifar100", published="73.69 %")
