# SPDX-License-Identifier: Apache-2.0
"""What `manage.py test` does, for a directory that is no Django project: `python django_runner.py PROCESSES`."""

from __future__ import annotations

import sys

import django
from django.conf import settings
from django.test.runner import DiscoverRunner

if __name__ == "__main__":
    sys.path.insert(0, ".")
    settings.configure(DATABASES={}, INSTALLED_APPS=[], SECRET_KEY="only for tests")
    django.setup()
    sys.exit(bool(DiscoverRunner(verbosity=2, parallel=int(sys.argv[1])).run_tests(["."])))
