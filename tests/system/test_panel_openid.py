"""Signing in through an OpenID provider, which runs here, in a real browser."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from joserfc.jwk import RSAKey
from playwright.sync_api import Browser, Page, expect, sync_playwright

from isthmus.client import Client
from isthmus.domain.users import Role
from tests.testbed.control import ControlPlane
from tests.testbed.openid import OpenIdProvider

expect.set_options(timeout=30_000)


@pytest.fixture(scope="module")
def provider() -> Iterator[OpenIdProvider]:
    with OpenIdProvider("isthmus", "very secret") as opened:
        yield opened


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory, provider: OpenIdProvider) -> Iterator[ControlPlane]:
    settings = {"openid": provider.issuer, "openid_client": "isthmus", "openid_secret": "very secret"}
    folder = tmp_path_factory.mktemp("openid")
    with ControlPlane(folder, openid_label="the office", openid_role="viewer", local_site=False, **settings) as opened:
        yield opened


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser, plane: ControlPlane) -> Iterator[Page]:
    with chromium.new_context(base_url=plane.url) as context:
        context.set_default_timeout(30_000)
        yield context.new_page()


def come_in(page: Page, who: str) -> None:
    page.goto("/sites")
    page.get_by_role("link", name="Sign in with the office").click()
    page.get_by_label("Who are you?").fill(who)
    page.get_by_role("button", name="Go on").click()


def test_a_new_person_becomes_a_viewer_and_stays_the_same(page: Page, plane: ControlPlane) -> None:
    come_in(page, "olga")
    expect(page).to_have_url(re.compile("/sites$"))
    expect(page.locator(".who")).to_have_text("olga")
    with Client(plane.url, plane.token) as admin:
        assert admin.users.get("olga").role is Role.VIEWER
    page.locator("details.me summary").click()
    page.get_by_role("button", name="Sign out").click()
    come_in(page, "olga")
    expect(page.locator(".who")).to_have_text("olga")
    with Client(plane.url, plane.token) as admin:
        admin.users.change("olga", disabled=True)
    page.goto("/jobs")
    expect(page.locator(".said")).to_contain_text("disabled")


def test_nobody_becomes_another_by_a_name(page: Page) -> None:
    come_in(page, "admin")
    expect(page.locator(".said.error")).to_contain_text("already, who signs in another way")
    page.goto("/jobs")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_an_account_there_can_be_linked_to_one_here(page: Page, plane: ControlPlane) -> None:
    with Client(plane.url, plane.token) as admin:
        page.goto(admin.users.sign_in_link().url)
    page.goto("/settings")
    page.get_by_role("link", name="Link my account there").click()
    page.get_by_label("Who are you?").fill("chief")
    page.get_by_role("button", name="Go on").click()
    expect(page).to_have_url(re.compile("/settings$"))
    page.context.clear_cookies()
    come_in(page, "chief")
    expect(page.locator(".who")).to_have_text("admin")


def test_who_says_no_is_told(page: Page) -> None:
    come_in(page, "nobody")
    expect(page.locator(".said.error")).to_contain_text("You said no.")


@pytest.mark.parametrize(
    "spoilt", [{"aud": "another"}, {"iss": "https://elsewhere.example"}, {"nonce": "old"}, {"exp": time.time() - 900}]
)
def test_a_token_that_is_not_for_us_is_refused(page: Page, provider: OpenIdProvider, spoilt: dict[str, object]) -> None:
    provider.spoil = spoilt
    try:
        come_in(page, "mallory")
        expect(page.locator(".said.error")).to_contain_text("token is not good")
    finally:
        provider.spoil = {}


def test_a_token_signed_by_another_key_is_refused(page: Page, provider: OpenIdProvider) -> None:
    provider.signing_key = RSAKey.generate_key(2048, {"kid": "one"})
    try:
        come_in(page, "mallory")
        expect(page.locator(".said.error")).to_contain_text("token is not good")
    finally:
        provider.signing_key = provider.key


def test_a_way_that_was_not_begun_here_leads_nowhere(page: Page, tmp_path: Path) -> None:
    page.goto("/sign-in/openid/callback?code=x&state=y")
    expect(page.locator(".said.error")).to_contain_text("not the way that was begun in this browser")
