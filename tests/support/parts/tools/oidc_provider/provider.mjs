// The issuer of the npm package oidc-provider, with the clients of a file.
//
// provider.mjs DIRECTORY PORT CLIENTS: DIRECTORY has the package installed; CLIENTS is JSON, a list of objects with id,
// secret, method, grant, audiences, scopes, jwt. A SIGHUP puts a new signing key before the old ones.
import { createServer } from 'node:http';
import { createPrivateKey, generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [, , directory, port, file] = process.argv;
const installed = createRequire(`${directory}/`).resolve('oidc-provider');
const { default: Provider, errors } = await import(pathToFileURL(installed));

const clients = JSON.parse(readFileSync(file, 'utf8'));
const byId = new Map(clients.map((client) => [client.id, client]));
const keys = [];

function newKey() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  keys.unshift({ ...createPrivateKey(privateKey.export({ format: 'pem', type: 'pkcs8' })).export({ format: 'jwk' }), use: 'sig', alg: 'RS256' });
}

function registration(client) {
  const keyed = client.method === 'private_key_jwt';
  return {
    client_id: client.id,
    ...(keyed ? { jwks: { keys: [publicOnly(keys[0])] } } : { client_secret: client.secret }),
    token_endpoint_auth_method: client.method,
    // A client that logs nobody in has neither redirects nor response types, and has to say so.
    grant_types: client.grant ? ['client_credentials'] : ['authorization_code'],
    redirect_uris: client.grant ? [] : ['https://example.com/callback'],
    response_types: client.grant ? [] : ['code'],
    scope: client.scopes.join(' '),
  };
}

function publicOnly({ kty, n, e }) {
  return { kty, n, e, use: 'sig', alg: 'RS256' };
}

function configuration() {
  return {
    clients: clients.map(registration),
    jwks: { keys },
    scopes: ['openid', ...new Set(clients.flatMap((client) => client.scopes)), 'unheld'],
    clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'private_key_jwt'],
    extraTokenClaims: (_, token) => (token.scope?.split(' ').includes('readwrite') ? { policy: 'readwrite' } : {}),
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo(_, resource, { clientId }) {
          const client = byId.get(clientId);
          const audience = resource.replace(/^https:\/\//, '');
          if (!client.audiences.includes(audience)) throw new errors.InvalidTarget();
          return { audience, scope: client.scopes.join(' '), accessTokenFormat: client.jwt ? 'jwt' : 'opaque' };
        },
      },
    },
  };
}

newKey();
let answer;
const renew = () => { answer = new Provider(`http://127.0.0.1:${port}`, configuration()).callback(); };
renew();
process.on('SIGHUP', () => { newKey(); renew(); });
createServer((request, response) => answer(request, response)).listen(Number(port), '127.0.0.1');
