// Runs every test of http-cache-tests that a proxy can be given, and prints one JSON object:
// {"tests": [{"id", "kind"}], "results": {id: true | [error, message]}}.
// usage: node run.mjs FOLDER_OF_THE_PACKAGE BASE_URL

import { pathToFileURL } from 'node:url'
import { join } from 'node:path'

const [folder, base] = process.argv.slice(2)
const part = name => import(pathToFileURL(join(folder, name)).href)

const WIDTH = 40
const TEST_MAX_MS = 60_000

const config = await part('client/config.mjs')
const { makeCacheTest, testResults } = await part('client/test.mjs')
const { default: fetch } = await part('../node-fetch/lib/index.mjs')
const { default: suites } = await part('tests/index.mjs')

config.setFetch(fetch)
config.setBaseUrl(base)
config.setUseBrowserCache(false)

const tests = suites.flatMap(suite => suite.tests).filter(test => !test.browser_only && !test.cdn_only)
const late = ms => new Promise(resolve => setTimeout(resolve, ms).unref())
for (let first = 0; first < tests.length; first += WIDTH) {
  const some = tests.slice(first, first + WIDTH)
  await Promise.all(some.map(test => Promise.race([makeCacheTest(test), late(TEST_MAX_MS)])))
}
const told = tests.map(({ id, kind }) => ({ id, kind: kind ?? 'required' }))
process.stdout.write(JSON.stringify({ tests: told, results: testResults }), () => process.exit(0))
