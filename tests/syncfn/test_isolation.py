"""Nothing that one document leaves behind changes what happens to the next."""

from __future__ import annotations

import pytest

from tests.syncfn.asking import ANN, Quick, body

# Each tries to find what its earlier run left; `seen` is true when it did.
LEFT_BEHIND = {
    "an implicit global": "seen = typeof left !== 'undefined'; left = 1",
    "a member of this": "seen = 'left' in this; this.left = 1",
    "a member of globalThis": "seen = 'left' in globalThis; globalThis.left = 1",
    "a fixed member of globalThis": "seen = 'left' in this; Object.defineProperty(this, 'left', {value: 1})",
    "a symbol in globalThis": "const s = Symbol.for('s'); seen = s in globalThis; globalThis[s] = 1",
    "a number in globalThis": "seen = 0 in globalThis; globalThis[0] = 1",
    "globalThis closed": "seen = !Object.isExtensible(globalThis); Object.freeze(globalThis)",
    "another prototype of globalThis": (
        "seen = 'left' in this; try { Object.setPrototypeOf(this, {left: 1}) } catch (e) {}"
    ),
    "Reflect of its own, to look clean": (
        "seen = 'left' in this; Object.defineProperty(this, 'left', {value: 1});"
        "Object.defineProperty(this, 'Reflect', {value: {ownKeys: () => []}, configurable: true})"
    ),
    "a proxy of globalThis": ("seen = 'left' in this; Object.defineProperty(new Proxy(this, {}), 'left', {value: 1})"),
    "a field of globalThis": (
        "const g = this; seen = 'left' in g; new (class extends function () { return g } { left = 1 })"
    ),
    "a member of Object.prototype": "seen = 'left' in {}; Object.prototype.left = 1",
    "a member of Array.prototype": "seen = 'left' in []; Array.prototype.left = 1",
    "a member of Math": "seen = 'left' in Math; Math.left = 1",
    "a member of channel": "seen = 'left' in channel; channel.left = 1",
    "a member of console": "seen = 'left' in console; console.left = 1",
    "a member of the function": "seen = 'left' in arguments.callee; arguments.callee.left = 1",
    "a member of a prototype nobody names": (
        "const p = Object.getPrototypeOf(Object.getPrototypeOf((function* () {})())); seen = 'left' in p; p.left = 1"
    ),
    "a member of the async function's prototype": (
        "const p = Object.getPrototypeOf(async () => 0); seen = 'left' in p; p.left = 1"
    ),
    "a member of the promise's prototype": (
        "const p = (async () => 0)().constructor; seen = 'left' in p.prototype || 'left' in p; "
        "p.left = 1; p.prototype.left = 1"
    ),
    "a member of a map's iterator": (
        "const p = Object.getPrototypeOf(new Map().keys()); seen = 'left' in p; p.left = 1"
    ),
    "a member of a segment of a template": (
        "const t = ((s) => s)`x`; seen = 'left' in t; try { t.left = 1 } catch (e) {}"
    ),
    "push of its own": "seen = [].push.left; Array.prototype.push = Object.assign(() => 0, {left: true})",
    "JSON of its own": "seen = JSON.left; try { JSON = {left: true} } catch (e) {}",
    "stringify of its own": "seen = JSON.stringify.left; JSON.stringify = Object.assign(() => '{}', {left: true})",
    "a channel() of its own": "seen = channel.left; channel = Object.assign(() => 0, {left: true})",
    "an error's settings": "seen = Error.stackTraceLimit === 7; Error.stackTraceLimit = 7",
    "a way to print stacks": "seen = Error.prepareStackTrace; Error.prepareStackTrace = () => true",
    "code from text": "seen = typeof left === 'number'; try { (0, eval)('let left = 1') } catch (e) {}",
    "a function from text": (
        "seen = 'left' in this; for (const f of [function () {}, () => 0, async () => 0, function* () {}, class {}]) "
        "{ try { f.constructor('globalThis.left = 1')() } catch (e) {} }"
    ),
    "a private member": (
        "class Base { constructor(o) { return o } } "
        "class Stamp extends Base { #x = 1; static has(o) { return #x in o } } "
        "seen = Stamp.has(Math); try { new Stamp(Math) } catch (e) {}"
    ),
    "the place in a regular expression": "const r = /a/g; seen = r.lastIndex !== 0; r.test('aa')",
    "a changed document": "seen = doc.left; doc.left = true",
    "a changed date": "seen = Date.prototype.left; Date.prototype.left = 1; Date.now = () => 0",
    "a getter on Object.prototype": (
        "seen = ({}).left; try { Object.defineProperty(Object.prototype, 'left', {get: () => 1}) } catch (e) {}"
    ),
    "__defineGetter__": "seen = ({}).left; try { Object.prototype.__defineGetter__('left', () => 1) } catch (e) {}",
    "__proto__ of a primordial": "seen = 'left' in Math; try { Math.__proto__ = {left: 1} } catch (e) {}",
}


@pytest.mark.parametrize("source", LEFT_BEHIND.values(), ids=LEFT_BEHIND)
@pytest.mark.parametrize("mode", ["", "'use strict'; "], ids=["sloppy", "strict"])
def test_a_document_finds_nothing_of_the_one_before(source: str, mode: str) -> None:
    tried = f"{mode}var seen; try {{ {source} }} catch (e) {{}} channel(seen ? 'leak' : 'clean')"
    text = body(tried)
    function = Quick(text)
    for _ in range(2):
        verdict = function()
        if not function.reusable:  # the process makes a new context then
            function = Quick(text)
        assert verdict.error is None, verdict
        assert verdict.routing.channels == {"clean"}
    assert Quick(body("channel('a')"))().routing.channels == {"a"}


def test_a_closure_around_the_function_is_made_anew() -> None:
    counter = Quick("(function () { let n = 0; return function (doc) { n++; channel('n' + n) } })()")
    assert counter().routing.channels == counter().routing.channels == {"n1"}


def test_a_global_without_var_works_within_one_document() -> None:
    loop = Quick(body("for (i = 0; i < 3; i++) channel('c' + i); channel(typeof i)"))
    for _ in range(2):
        assert loop().routing.channels == {"c0", "c1", "c2", "number"}
        assert loop.reusable


@pytest.mark.parametrize(
    "attack",
    [
        "Object.prototype.forbidden = undefined",
        "requireAdmin = function () {}",
        "globalThis.requireAdmin = function () {}",
        "Object.defineProperty(Object.getPrototypeOf(globalThis), 'requireAdmin', {value: function () {}})",
        "Array.isArray = () => true",
        "Array.prototype.includes = () => true",
        "Object.prototype.writer = ''",
        "Set.prototype.add = () => 0",
        "JSON.parse = () => ({name: 'x', roles: [], channels: []})",
        "Function.prototype.apply = () => 0",
        "Array.prototype[Symbol.iterator] = null",
        "delete globalThis.requireAdmin",
    ],
)
def test_no_prototype_pollution_gets_round_a_requirement(attack: str) -> None:
    source = body(f"try {{ {attack} }} catch (e) {{}} const f = Object.getPrototypeOf(globalThis).requireAdmin; f()")
    assert Quick(source)(writer=ANN).error is not None
    plain = body(f"try {{ {attack} }} catch (e) {{}} channel('a')")
    assert Quick(plain)().routing.channels == {"a"}


def test_objects_may_have_members_named_like_those_of_all_objects() -> None:
    verdict = Quick(
        body(
            "'use strict'; const seen = {}; for (const n of doc.names) seen[n] = n;"
            "const e = new Error('a'); e.message = 'b'; e.name = 'Mine';"
            "class E extends Error {}; E.prototype.name = 'E';"
            "channel(Object.keys(seen), e.message, e.name, new E().name)"
        )
    )({"names": ["constructor", "toString", "valueOf", "hasOwnProperty"]})
    assert verdict.routing.channels == {
        *("constructor", "toString", "valueOf", "hasOwnProperty"),
        *("b", "Mine", "E"),
    }


def test_the_language_is_all_there() -> None:
    verdict = Quick(
        body(
            "const {a = 1, ...rest} = doc; const m = new Map([[a, rest]]); const d = new Date(0).toISOString();"
            "channel(d.slice(0, 4), typeof Math.random(), 'äb'.normalize('NFD').length.toString(),"
            "[3, 1, 2].sort().join(''),"
            "[...new Set([1, 1])].length.toString(), String(2n ** 64n), 'x'.padStart(3, '-'), doc?.b?.c ?? 'none',"
            "(function () {}) instanceof Function ? 'function' : '', encodeURIComponent('/'), m.size.toString())"
        )
    )()
    assert verdict.error is None, verdict
    assert "18446744073709551616" in verdict.routing.channels
    assert {"1970", "number", "3", "123", "--x", "none", "function", "%2F", "1"} <= verdict.routing.channels
