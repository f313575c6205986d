"""Let the API pages show the fields of an Equinox module as its signature.

Griffe reads the source without running it, and so does not know that a subclass of
`equinox.Module` is a dataclass. Concrete modules are marked as one here; Griffe's own
extension for dataclasses, which runs later, does the rest.
"""

import griffe


class EquinoxModules(griffe.Extension):
    """Mark concrete Equinox modules as dataclasses."""

    def on_package(self, *, pkg, **_):
        """Visit a package once all of it has been read."""
        _visit(pkg, pkg)


def _visit(pkg, parent):
    for member in parent.members.values():
        if member.is_alias:
            continue
        if member.is_class and not member.name.startswith("Abstract"):
            if _is_module(pkg, member):
                _mark(member)
        if member.is_class or member.is_module:
            _visit(pkg, member)


def _is_module(pkg, cls):
    for base in cls.bases:
        path = getattr(base, "canonical_path", str(base))
        if path == "equinox.Module":
            return True
        if path.startswith(pkg.name + "."):
            try:
                parent = pkg.modules_collection[path]
                parent = parent.final_target if parent.is_alias else parent
            except (KeyError, griffe.GriffeError):
                continue
            if _is_module(pkg, parent):
                return True
    return False


def _mark(cls):
    dataclass = griffe.ExprName("dataclasses.dataclass")
    cls.decorators.append(griffe.Decorator(dataclass, lineno=None, endlineno=None))
    for member in cls.members.values():
        value = getattr(member, "value", None)
        if not isinstance(value, griffe.ExprCall):
            continue
        if value.canonical_path == "equinox.field":
            value.function = griffe.ExprName("dataclasses.field")
