"""SQLite and PostgreSQL pass the conformance kits."""

import pytest

from tests.kits.drivers import DrivingConformance
from tests.kits.stores import StoreConformance


class TestSQLite(StoreConformance, DrivingConformance):
    @pytest.fixture
    def url(self, sqlite_url):
        return sqlite_url


class TestPostgreSQL(StoreConformance, DrivingConformance):
    @pytest.fixture
    def url(self, postgres_url):
        return postgres_url
