"""SQLite and PostgreSQL pass the conformance kit."""

import pytest

from tests.kits.stores import StoreConformance


class TestSQLite(StoreConformance):
    @pytest.fixture
    def url(self, sqlite_url):
        return sqlite_url


class TestPostgreSQL(StoreConformance):
    @pytest.fixture
    def url(self, postgres_url):
        return postgres_url
