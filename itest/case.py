# SPDX-License-Identifier: Apache-2.0
"""The test case: collects the declarations of a class and drives them through unittest's life cycle.

    class created   the declarations are checked
    setUpClass      the services are started, or lent if they run already; then `setUpTestData`
    run             before the test: each view is reset to the class's baseline; after it: what it handed out is closed
    class cleanups  the class's data is given back; servers of scope "class" stop

The reset is in `run()` and not in `setUp()`, so that forgetting `super().setUp()` cannot leak data into a test. For the
same reason `run()` enters the class's services itself if no `setUpClass` of ours was called; on Django's test cases,
which use the database around it, `__call__` does.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
import unittest
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec

from itest import network as networks
from itest import references, whole_run
from itest import session as sessions
from itest.assertions import Assertions
from itest.config import Config
from itest.declaring import check_attributes, check_methods, check_scope, check_types, is_async
from itest.diagnose import Diagnosis, Watched
from itest.errors import DeclarationError, IsolationError, NotStarted, ServerDied, Unavailable
from itest.fixture_files import load_marked
from itest.loan import Loan, loans_of, network_of, take_all
from itest.service import Service, View, declarations
from itest.whole_run import is_skipped, skip_reasons

__unittest = True  # Hides these frames from the traceback of a failed assertion (unittest/result.py).

if TYPE_CHECKING:
    from typing import Self

    from itest.async_case import AsyncContainerTestCase as AsyncContainerTestCase

    _Base = unittest.TestCase
else:
    _Base = object

P = ParamSpec("P")

_INSTEAD_OF_CLEANUP = (
    ", in which cls.runAsync(...) runs a coroutine, or set loop_scope = 'class' and use asyncTearDownClass"
)


class ContainerMixin(Assertions, _Base):
    """The life cycle itself, for use with another TestCase: `class T(PostgresMixin, ContainerMixin,
    django.test.SimpleTestCase)`; docs/migrations.md says which of Django's is for what.

    Most people subclass `ContainerTestCase` instead.
    """

    _itest_declarations: ClassVar[list[tuple[str, Service[Any]]]] = []
    _itest_views: dict[int, View]
    _itest_diagnosis: Diagnosis

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _collect(cls)
        if cls._itest_declarations:
            whole_run.install()

    @classmethod
    def setUpClass(cls) -> None:
        # unittest calls this though each method is decorated with skip; nothing should start for that.
        if reasons := skip_reasons(cls):
            if _sets_up_more(cls):
                raise unittest.SkipTest(f"{'; '.join(reasons)} (every selected test of the class is skipped)")
            return  # On to the tests, whose own reasons are told.
        if hasattr(cls, "_fixture_setup") or _filled_by_others(cls):  # Django's, which use the database from there on.
            loans = _enter(cls, fill=False)
            with _explained(cls, loans):
                super().setUpClass()
                if not _filled_by_others(cls):
                    _fill(cls)
        else:
            super().setUpClass()
            _enter(cls)

    @classmethod
    def setUpTestData(cls) -> None:
        """Override to write the baseline data of the class: every test starts from it. Needs no `super()`."""
        if further := getattr(super(), "setUpTestData", None):  # Of a base behind, as of one derived from Django's.
            further()

    @classmethod
    def addClassCleanup(cls, function: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> None:
        if inspect.iscoroutinefunction(function):
            raise DeclarationError(
                f"{cls.__qualname__}.addClassCleanup({function.__qualname__}): it is async and nothing would ever await "
                f"it; give a plain function{_INSTEAD_OF_CLEANUP if is_async(cls) else ''}"
            )
        super().addClassCleanup(function, *args, **kwargs)

    @classmethod
    def _itest_entered(cls) -> None:
        """Called when the services of the class have been started and its test data is written."""

    def __call__(self, result: unittest.TestResult | None = None) -> unittest.TestResult | None:
        if not hasattr(self, "_fixture_setup") or is_skipped(self):
            return super().__call__(result)
        # Django's use the database around run() as well. Until the class is entered that is the project's own.
        if result is None:
            return self._itest_alone(self)
        whole_run.close_with(result)
        with whole_run.running(self):
            try:
                _enter(type(self))
            except Exception as error:
                return self._itest_refuse(result, error)
            return super().__call__(result)

    def run(self, result: unittest.TestResult | None = None) -> unittest.TestResult | None:
        if result is None:
            return self._itest_alone(self.run)
        whole_run.close_with(result)
        sessions.watch(result)
        if is_skipped(self):
            return super().run(result)
        with whole_run.running(self):
            try:
                self._itest_before()
            except Exception as error:
                self._itest_annotate(error)
                self._itest_after()
                return self._itest_refuse(result, error)
            try:
                super().run(Watched(result, self._itest_diagnosis.annotate))  # type: ignore[arg-type]  # it has all of one
            finally:
                self._itest_after()
                self._itest_diagnosis.end()
                self._itest_diagnosis.keep()
            return result

    def debug(self) -> None:
        if is_skipped(self):
            return super().debug()
        try:
            self._itest_before()
            super().debug()
        except Exception as error:
            self._itest_annotate(error)
            raise
        finally:
            self._itest_after()

    def __reduce__(self) -> tuple[Any, ...]:
        """Runners with worker processes pickle test cases, and those that have run as parts of their results: of these the
        name will do, as what a run has made can often not be pickled. Raises PicklingError for other attributes."""
        from itest import pickling

        if "_itest_diagnosis" in vars(self):
            return type(self), (self._testMethodName,)
        return pickling.made_again, (type(self),), pickling.state_of(self)

    def __copy__(self) -> Self:
        from itest import pickling

        return pickling.copy_of(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        from itest import pickling

        return pickling.copy_of(self, memo)

    def _itest_alone(
        self, run: Callable[[unittest.TestResult], unittest.TestResult | None]
    ) -> unittest.TestResult | None:
        """A run of its own, as unittest's own run() makes it."""
        result = self.defaultTestResult()
        result.startTestRun()
        try:
            return run(result)
        finally:
            result.stopTestRun()

    def _itest_refuse(self, result: unittest.TestResult, error: Exception) -> unittest.TestResult:
        """Report what is being handled as this test's: an exception that escapes run() would end the whole run."""
        result.startTest(self)
        if isinstance(error, unittest.SkipTest):
            result.addSkip(self, str(error))
        else:
            result.addError(self, sys.exc_info())
        result.stopTest(self)
        return result

    def _itest_before(self) -> None:
        self.__dict__.pop("_itest_diagnosis", None)  # Of an earlier run of the same test.
        loans = _enter(type(self))
        whole_run.set_up_ends(type(self))
        self._itest_views = {}
        test, session = self.id(), sessions.current()
        config = session.config
        self._itest_diagnosis = diagnosis = Diagnosis(test, loans, config)
        with _skipping(config):  # A server of scope "test" is started here.
            for loan in reversed(loans):  # An app before what it writes to.
                loan.rest()
            for loan in loans:  # One by one, so that those already made are closed if a later reset raises.
                self._itest_views[id(loan.service)] = loan.reset(test)
        if any(loan.service.scope == "test" for loan in loans):  # Not before, as these lead Django to theirs now.
            _check_databases(type(self))
        diagnosis.begin()
        session.telling.look_on(whole_run.look)
        if config.strict:
            diagnosis.begin_strict()
            self.addCleanup(diagnosis.end_strict, self._itest_views.values())
        for loan in loans:  # Cleanups run last in, first out: after all of the test's own, and counted as the test's.
            if loan.finishes:
                self.addCleanup(self._itest_finish, loan)
        method = getattr(self, self._testMethodName)
        method = getattr(method, "awaitable", method)  # asgiref's, which Django wraps coroutines in.
        if hasattr(method, "__itest_fixtures__"):
            views = {loan.name: self._itest_views[id(loan.service)] for loan in loans}
            load_marked(method, test, {name: view for name, view in views.items() if hasattr(view, "load")})

    def _itest_annotate(self, error: Exception) -> None:
        if isinstance(error, unittest.SkipTest | ServerDied):  # The latter has said it all.
            return
        if (diagnosis := self.__dict__.get("_itest_diagnosis")) is not None:  # Else nothing has been started for it.
            diagnosis.annotate(error)

    def _itest_finish(self, loan: Loan) -> None:
        if self._itest_diagnosis.forked:
            return
        try:
            loan.finish(self.id())
        except IsolationError as error:
            if not self._itest_diagnosis.has_told(error):
                raise

    def _itest_after(self) -> None:
        views = self.__dict__.pop("_itest_views", {}).values()
        if views and not self._itest_diagnosis.forked:
            for view in views:
                view.close()

    def _itest_view(self, service: Service[Any]) -> View:
        try:
            return self._itest_views[id(service)]
        except (AttributeError, KeyError):
            reason = _added_later(type(self), service) or _not_running(self, service)
            raise NotStarted(f"{_label(type(self), service)}: {reason}") from None

    @classmethod
    def _itest_class_view(cls, service: Service[Any]) -> View:
        loans: list[Loan] = cls.__dict__.get("_itest_loans", [])
        for loan in loans:
            if loan.service is service and not loan.stopped:
                return loan.class_view()
        reason = _added_later(cls, service) or (
            "its view has ended with the class; tearDownClass is the last that may use it"
            if "_itest_left" in vars(cls)
            else "its view does not exist before the class's services are started; in setUpClass, call super().setUpClass() "
            "first"
        )
        raise NotStarted(f"{_label(cls, service)}: {reason}")


def _sets_up_more(cls: type[ContainerMixin]) -> bool:
    """Whether somebody else's code is called before or after the tests of the class, which may count on its services."""
    bases = [base for base in cls.__mro__ if {"setUpClass", "tearDownClass"} & vars(base).keys()]
    return any(base.__module__.partition(".")[0] not in ("itest", "unittest") for base in bases)


def _filled_by_others(cls: type[ContainerMixin]) -> bool:
    """Whether another base calls `setUpTestData` in its setUpClass, as Django's TestCase does."""
    others = cls.__mro__[cls.__mro__.index(ContainerMixin) + 1 :]
    hooks = (getattr(vars(base).get("setUpClass"), "__func__", None) for base in others)
    return any("setUpTestData" in inspect.unwrap(hook).__code__.co_names for hook in hooks if inspect.isfunction(hook))


def _enter(cls: type[ContainerMixin], *, fill: bool = True) -> list[Loan]:
    """The loans of a class; made at the first call, and anew after the session was closed or the class was left."""
    if (entered := cls.__dict__.get("_itest_loans")) is not None and all(loan.usable for loan in entered):
        return entered  # type: ignore[no-any-return]  # found in a class's dict, whose values are Any
    if "_itest_declarations" not in vars(cls):  # A base's `__init_subclass__` calls no `super()`.
        _collect(cls)
    session = sessions.current()
    declared = cls._itest_declarations
    network = network_of(cls, declared, session)
    cls._itest_network = network  # type: ignore[attr-defined]  # each class has its own: it must not be inherited
    loans = loans_of(cls, declared, session, network)
    cls._itest_loans = loans  # type: ignore[attr-defined]  # as above
    cls.addClassCleanup(_leave, cls, loans)
    try:
        with session.trace.span("setup", f"{cls.__module__}.{cls.__qualname__}"):
            take_all(loans, session)
            if all(loan.service.scope != "test" for loan in loans):
                _check_databases(cls)
            whole_run.ask_to_skip(cls)
            with _explained(cls, loans):
                if fill:
                    _fill(cls)
                cls._itest_entered()
    except BaseException as error:
        try:
            _leave(cls, loans)
        except Exception as failure:  # It must not take the place of what happened before, be it Ctrl-C.
            error.add_note(f"and what the class had could not be given back: {failure}")
        with _skipping(session.config):
            raise
    return loans


def _check_databases(cls: type[ContainerMixin]) -> None:
    """Raises DeclarationError where Django would write to the project's own database."""
    if _is_djangos(cls):
        from itest import django_case

        django_case.check_databases(cls)


def _fill(cls: type[ContainerMixin]) -> None:
    if _is_djangos(cls):
        from itest import django_case

        django_case.fill(cls)
    else:
        cls.setUpTestData()


def _is_djangos(cls: type) -> bool:
    testcases = sys.modules.get("django.test.testcases")
    return testcases is not None and issubclass(cls, testcases.SimpleTestCase)


@contextlib.contextmanager
def _explained(cls: type[ContainerMixin], loans: list[Loan]) -> Iterator[None]:
    """Add what the services tell to what fails in a class's set-up, and have it told if it takes very long."""
    session = sessions.current()
    diagnosis = Diagnosis(f"{cls.__module__}.{cls.__qualname__}", loans, session.config, name="setUpClass")
    diagnosis.begin_to_count()
    whole_run.set_up_begins(cls, diagnosis)
    session.telling.look_on(whole_run.look)
    try:
        yield
    except unittest.SkipTest:
        raise
    except Exception as error:
        diagnosis.annotate(error)
        raise


@contextlib.contextmanager
def _skipping(config: Config) -> Iterator[None]:
    """Where nothing can run a service, its tests are skipped, unless the settings say that they must run."""
    try:
        yield
    except Unavailable as error:
        if config.required:
            raise
        raise unittest.SkipTest(str(error)) from error


def _leave(cls: type[ContainerMixin], loans: list[Loan]) -> None:
    """Give back what a class holds. A runner may enter the class again afterwards."""
    whole_run.set_up_ends(cls)
    if cls.__dict__.get("_itest_loans") is loans:
        del cls._itest_loans  # type: ignore[attr-defined]  # as above
        cls._itest_left = True  # type: ignore[attr-defined]  # as above
    with contextlib.ExitStack() as stack:  # In reverse, and each of them, whatever others raise.
        if (network := cls.__dict__.get("_itest_network")) is not None:
            del cls._itest_network  # type: ignore[attr-defined]  # as above
            stack.callback(network.close)
        for loan in loans:
            if loan.usable:
                stack.callback(loan.give_back)
            elif loan.stopped:
                stack.callback(loan.around.close)


def _collect(cls: type[ContainerMixin]) -> None:
    """Raises DeclarationError."""
    found = declarations(cls)
    _check(cls, found)
    cls._itest_declarations = found


def _check(cls: type, found: list[tuple[str, Service[Any]]]) -> None:
    """Raise DeclarationError for the mistakes that would otherwise pass in silence."""
    owner = cls.__qualname__
    if issubclass(cls, unittest.TestCase) and cls.__mro__.index(unittest.TestCase) < cls.__mro__.index(ContainerMixin):
        raise DeclarationError(
            f"{owner}: ContainerMixin comes after unittest.TestCase among its bases and would never be called: "
            f"list the mixins first, class {cls.__name__}(PostgresMixin, ContainerMixin, ...)"
        )
    check_attributes(cls)
    for name, service in found:
        check_types(service, f"{owner}.{name}")
    references.check(owner, found)
    name, network = networks.declared(cls)
    if network is not None:
        network.check(owner, name, [each for each, _ in found])
    seen: dict[int, str] = {}
    for name, service in found:
        service.check(owner, name)
        check_scope(cls, name, service)
        if (other := seen.setdefault(id(service), name)) != name:
            raise DeclarationError(f"{owner}: {other} and {name} are one and the same declaration; declare it twice")
        if name.startswith(unittest.defaultTestLoader.testMethodPrefix):
            raise DeclarationError(
                f"{owner}.{name}: unittest takes a name that starts with 'test' for a test; rename it"
            )
        if hasattr(unittest.TestCase, name) or hasattr(Assertions, name):
            raise DeclarationError(
                f"{owner}.{name}: test cases have a method of that name, which would be lost; rename it"
            )
    if not issubclass(cls, unittest.TestCase):
        return  # A mixin with tests: what they need of a test case is known when they meet one.
    check_methods(cls)


def _added_later(cls: type[ContainerMixin], service: Service[Any]) -> str:
    """What to say of a declaration that the class got after it was made, by a decorator for instance. Empty: it did not."""
    if "_itest_declarations" not in vars(cls):  # They will be collected when its services are entered.
        return ""
    collected = any(service is each for _, each in cls._itest_declarations)
    if collected or all(service is not each for _, each in declarations(cls)):
        return ""
    return (
        "it was added when the class was made already, and its declarations collected; declare it in the class's body"
    )


def _not_running(test: ContainerMixin, service: Service[Any]) -> str:
    """Why a test has no view, and where to look instead."""
    reason = "its view exists only while the test runs"
    if "_itest_diagnosis" in vars(test):
        loans: list[Loan] = vars(type(test)).get("_itest_loans", [])
        for loan in loans:
            if loan.service is service and loan.usable and service.scope != "test":
                return f"{reason}; in a debugger, type(self).{loan.name} shows what the test has left"
        return reason
    if getattr(test, "_outcome", None) is not None:  # unittest runs it.
        return "its view is made by itest's run(), which was not called; does a run() of your own call super().run()?"
    if "_pytest.unittest" in sys.modules:  # It runs its own fixtures before `run()`.
        return f"{reason}; pytest's fixtures and setup_method come before that: use setUp or setUpTestData"
    return reason


def _label(cls: type, service: Service[Any]) -> str:
    names = [name for name, value in declarations(cls) if value is service]
    return f"{cls.__qualname__}.{names[0] if names else service.kind}"


# Last, because making a class runs its checks.


class ContainerTestCase(ContainerMixin, unittest.TestCase):
    """Base class of tests against real services. Declare what they need as class attributes, or take a mixin."""


if not TYPE_CHECKING:  # As in `itest`.

    def __getattr__(name: str) -> object:
        """`AsyncContainerTestCase` has a module of its own, so that plain test cases never import asyncio (PEP 562)."""
        if name != "AsyncContainerTestCase":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from itest.async_case import AsyncContainerTestCase

        return AsyncContainerTestCase
