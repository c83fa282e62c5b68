// Answers the pairs on standard input, one JSON a line, with @cloud-copilot/iam-simulate: a letter for
// each. A: allowed, I: implicitly denied, E: explicitly denied, X: not simulated, with why on standard error.
//
//   npm install @cloud-copilot/iam-simulate
//   KEYRUM_PAIRS=$PWD/pairs.jsonl cargo test -p keyrum-authz --test rules -- --ignored write_pairs
//   node simulate.mjs < pairs.jsonl > expected.txt

import { createInterface } from 'node:readline'
import { runSimulation } from '@cloud-copilot/iam-simulate'

const named = (policy, name) => (policy ? [{ name, policy }] : [])

async function answer(pair) {
  // What Keyrum's engine knows from who asks, the simulator is told.
  const context = {
    ...pair.context,
    'aws:PrincipalArn': pair.roleArn || pair.arn,
    'aws:PrincipalAccount': pair.account,
    'aws:userid': pair.uniqueId,
    'kms:CallerAccount': pair.account,
  }
  if (pair.kind === 'User') context['aws:username'] = pair.arn.split('/').pop()
  // The simulator's root user is like any other; the real one's own side allows everything.
  const everything = { Effect: 'Allow', Action: '*', Resource: '*' }
  if (pair.kind === 'Root') pair.identity.push({ Version: '2012-10-17', Statement: [everything] })
  const simulation = {
    request: {
      principal: pair.arn,
      action: `kms:${pair.action}`,
      resource: { resource: pair.resource, accountId: pair.owner },
      contextVariables: context,
    },
    identityPolicies: pair.identity.map((policy, i) => ({ name: `identity${i}`, policy })),
    serviceControlPolicies: [],
    resourceControlPolicies: [],
    resourcePolicy: pair.keyPolicy ?? undefined,
    permissionBoundaryPolicies: pair.boundary ? named(pair.boundary, 'boundary') : undefined,
    sessionPolicy: pair.session ?? undefined,
  }
  const result = await runSimulation(simulation, {})
  if (result.resultType === 'error') {
    console.error(JSON.stringify(result.errors))
    return 'X'
  }
  if (result.result.ignoredContextKeys.length > 0) {
    console.error(`ignored: ${result.result.ignoredContextKeys}`)
    return 'X'
  }
  const letters = { Allowed: 'A', ImplicitlyDenied: 'I', ExplicitlyDenied: 'E' }
  return letters[result.overallResult]
}

let line = ''
for await (const text of createInterface({ input: process.stdin })) {
  line += await answer(JSON.parse(text))
  if (line.length === 100) {
    console.log(line)
    line = ''
  }
}
if (line) console.log(line)
