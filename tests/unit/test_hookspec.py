"""Hooks: what a conftest.py or another plugin can add."""

import pluggy
import pytest

from perfgate import hookspec


@pytest.fixture
def hooks():
    """A plugin manager that knows the hooks."""
    manager = pluggy.PluginManager("pytest")
    manager.add_hookspecs(hookspec)
    return manager


def plugin(**methods):
    """A plugin with these hooks."""
    implementation = pluggy.HookimplMarker("pytest")
    functions = {
        name: staticmethod(implementation(function))
        for name, function in methods.items()
    }
    return type("Plugin", (), functions)()


def test_each_hook_is_registered_and_documented(hooks):
    """By pytest's own marker, under a name of its own."""
    names = [name for name in vars(hookspec) if name.startswith("pytest_")]

    assert 5 == len(names)
    for name in names:
        assert getattr(hooks.hook, name).has_spec()
        assert getattr(hookspec, name).__doc__


@pytest.mark.parametrize("what", ["engines", "models", "metrics"])
def test_every_plugin_adds_its_own(hooks, what):
    """Results of all plugins arrive, the last registered first."""
    name = f"pytest_perfgate_{what}"
    for value in ("a", "b"):
        hooks.register(plugin(**{name: lambda config, value=value: [value]}))

    assert [["b"], ["a"]] == getattr(hooks.hook, name)(config=None)


def test_cases_are_changed_in_place(hooks):
    """A plugin gets the list that the question keeps."""

    def add(subject, question, cases):
        cases.append((subject, question))

    hooks.register(plugin(pytest_perfgate_cases=add))
    cases = []
    hooks.hook.pytest_perfgate_cases(subject="s", question="q", cases=cases)

    assert [("s", "q")] == cases


def test_the_first_progress_display_is_used(hooks):
    """One display shows a session; a plugin that returns None leaves it to others."""
    hooks.register(plugin(pytest_perfgate_progress=lambda config: "default"))
    hooks.register(plugin(pytest_perfgate_progress=lambda config: "own"))
    hooks.register(plugin(pytest_perfgate_progress=lambda config: None))

    assert "own" == hooks.hook.pytest_perfgate_progress(config=None)


def test_a_misspelt_argument_is_refused(hooks):
    """An implementation that asks for an unknown argument fails when it is registered."""
    wrong = plugin(pytest_perfgate_engines=lambda configuration: [])

    with pytest.raises(pluggy.PluginValidationError, match="configuration"):
        hooks.register(wrong)
