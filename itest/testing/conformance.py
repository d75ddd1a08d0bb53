# SPDX-License-Identifier: Apache-2.0
"""What every engine and every service must do, run against each of them."""

from __future__ import annotations

import unittest
from typing import Any

from itest import naming, trace, wait
from itest.clock import Deadline, wall
from itest.engines import Engine, Instance
from itest.spec import ExternalSpec, Spec


class EngineConformance(unittest.TestCase):
    """What every engine must do. Subclass it, give `engine()` and `spec()`, and every test here runs on yours.

    The spec must print "ready" and keep running.
    """

    def engine(self) -> Engine:
        raise unittest.SkipTest("EngineConformance is a base class")

    def spec(self) -> Spec:
        raise NotImplementedError

    def setUp(self) -> None:
        self.subject = self.engine()
        self.addCleanup(self.subject.close)
        if reason := self.subject.unavailable():
            self.skipTest(reason)
        self.labels = {naming.SESSION: naming.session_id(), naming.SERVICE: "conformance", naming.OWNER: naming.owner()}
        self.addCleanup(self.subject.remove, self.labels)

    def start(self) -> Instance:
        instance = self.subject.start(self.spec(), self.labels, Deadline.after(60), trace.Recorder())
        self.addCleanup(instance.stop)
        return instance

    def ready(self) -> Instance:
        instance = self.start()
        wait.until_ready(wait.log("ready"), instance, Deadline.after(60), subject="conformance")
        return instance

    def test_runs_until_it_is_stopped(self) -> None:
        instance = self.start()
        self.assertTrue(instance.state().running, instance.state())
        instance.stop()
        self.assertFalse(instance.state().running)

    def test_stop_may_be_called_twice(self) -> None:
        instance = self.start()
        instance.stop()
        instance.stop()

    def test_each_port_has_an_endpoint_on_this_machine(self) -> None:
        instance = self.start()
        spec = self.spec()
        assert not isinstance(spec, ExternalSpec)
        endpoints = [instance.endpoint(name) for name in spec.ports]
        self.assertEqual(endpoints[0], instance.endpoint())
        self.assertTrue(all(endpoint.host == "127.0.0.1" and endpoint.port > 1023 for endpoint in endpoints))
        self.assertEqual(len({endpoint.port for endpoint in endpoints}), len(endpoints))

    def test_an_unknown_port_names_those_there_are(self) -> None:
        instance = self.start()
        spec = self.spec()
        assert not isinstance(spec, ExternalSpec)
        with self.assertRaisesRegex(KeyError, next(iter(spec.ports))):
            instance.endpoint("nonsense")

    def test_its_log_can_be_read_whole_and_in_part(self) -> None:
        instance = self.ready()
        self.assertIn("ready", instance.logs())
        self.assertLessEqual(len(instance.logs(tail=1).strip().splitlines()), 1)

    def test_it_is_found_and_removed_by_its_labels(self) -> None:
        instance = self.start()
        self.assertEqual([found.id for found in self.subject.find(self.labels)], [instance.id])
        self.assertEqual(self.subject.find({naming.SESSION: naming.session_id()}), [])
        self.assertEqual(self.subject.remove(self.labels), 1)
        self.assertEqual(self.subject.find(self.labels), [])
        self.assertFalse(instance.state().running)

    def test_what_it_has_made_is_listed_and_can_be_removed_from_there(self) -> None:
        instance = self.ready()
        [thing] = [each for each in self.subject.things() if self.labels.items() <= each.labels.items()]
        self.assertTrue(thing.running)
        self.assertAlmostEqual(thing.created, wall(), delta=60)
        self.assertNotIn("\n", str(thing))
        thing.remove()
        thing.remove()
        self.assertFalse(instance.state().running)
        self.assertEqual(self.subject.find(self.labels), [])

    def test_removing_by_no_label_is_refused(self) -> None:
        with self.assertRaises(ValueError):
            self.subject.remove({})

    def test_its_text_fits_into_a_sentence(self) -> None:
        text = str(self.start())
        self.assertNotIn("\n", text)
        self.assertNotIn(" object at ", text)


class ServiceConformance(unittest.TestCase):
    """What every service must do, on whatever engine the settings choose.

    Subclass it together with ContainerTestCase and declare `service`; give `write`, `read`, which put data into a view
    and count it.
    """

    service: Any

    def write(self, view: Any, name: str) -> None:
        raise NotImplementedError

    def read(self, view: Any) -> set[str]:
        raise NotImplementedError

    @classmethod
    def setUpTestData(cls) -> None:
        cls().write(cls.service, "baseline")

    def setUp(self) -> None:
        if type(self) is ServiceConformance:  # Imported by name, it is in a test module's sight too.
            self.skipTest("ServiceConformance is a base class")

    def test_1_starts_from_the_baseline_and_writes(self) -> None:
        self.assertEqual(self.read(self.service), {"baseline"})
        self.write(self.service, "mine")
        self.assertEqual(self.read(self.service), {"baseline", "mine"})

    def test_2_starts_from_the_baseline_after_a_test_that_wrote(self) -> None:
        self.assertEqual(self.read(self.service), {"baseline"})

    def test_the_view_says_where_it_is(self) -> None:
        view = self.service
        self.assertIn(str(view.port), view.url)
        self.assertIn(view.host, view.url)
        self.assertTrue(view.env)

    def test_no_text_shows_the_password(self) -> None:
        for text in (repr(self.service), str(self.service.server.instance), self.service.logs()):
            self.assertEqual(text, naming.mask(text))
