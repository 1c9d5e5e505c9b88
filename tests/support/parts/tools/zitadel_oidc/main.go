// The example provider of zitadel/oidc, with clients for client credentials that a file registers.
//
// zitadel_oidc PORT CLIENTS: CLIENTS is JSON, a list of objects with id, secret, grant, audiences, scopes, jwt. The
// example has one such client, with an opaque token for itself, and one key. Requests, authentication, refusals and
// tokens are the library's. A SIGHUP makes a new signing key, and keeps the old ones published.
package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

type registration struct {
	ID        string
	Secret    string
	Grant     bool
	Audiences []string
	Scopes    []string
	JWT       bool
}

type client struct {
	*storage.Client
	registered registration
}

func (c client) GrantTypes() []oidc.GrantType {
	if c.registered.Grant {
		return []oidc.GrantType{oidc.GrantTypeClientCredentials}
	}
	return []oidc.GrantType{oidc.GrantTypeCode}
}

func (c client) AccessTokenType() op.AccessTokenType {
	if c.registered.JWT {
		return op.AccessTokenTypeJWT
	}
	return op.AccessTokenTypeBearer
}

type key struct {
	id      string
	private *rsa.PrivateKey
}

func (k key) ID() string                                  { return k.id }
func (k key) Key() any                                    { return k.private }
func (k key) SignatureAlgorithm() jose.SignatureAlgorithm { return jose.RS256 }

type published struct{ key }

func (p published) Key() any                           { return &p.private.PublicKey }
func (p published) Algorithm() jose.SignatureAlgorithm { return jose.RS256 }
func (p published) Use() string                        { return "sig" }

// store is the example's storage where it is not about these clients and keys.
type store struct {
	*storage.Storage
	clients map[string]client
	lock    sync.Mutex
	keys    []key
}

func (s *store) ClientCredentials(_ context.Context, id, secret string) (op.Client, error) {
	found, ok := s.clients[id]
	if !ok || found.registered.Secret != secret {
		return nil, errors.New("wrong client or secret")
	}
	return found, nil
}

func (s *store) ClientCredentialsTokenRequest(_ context.Context, id string, scopes []string) (op.TokenRequest, error) {
	registered := s.clients[id].registered
	for _, scope := range scopes {
		if !slices.Contains(registered.Scopes, scope) {
			return nil, oidc.ErrInvalidScope()
		}
	}
	return &oidc.JWTTokenRequest{Subject: id, Audience: registered.Audiences, Scopes: scopes}, nil
}

func (s *store) GetPrivateClaimsFromScopes(_ context.Context, _, _ string, scopes []string) (map[string]any, error) {
	if slices.Contains(scopes, "readwrite") {
		return map[string]any{"policy": "readwrite"}, nil
	}
	return nil, nil
}

func (s *store) SigningKey(context.Context) (op.SigningKey, error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	return s.keys[0], nil
}

func (s *store) KeySet(context.Context) ([]op.Key, error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	keys := make([]op.Key, 0, len(s.keys))
	for _, each := range s.keys {
		keys = append(keys, published{each})
	}
	return keys, nil
}

func (s *store) newKey() {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	check(err)
	s.lock.Lock()
	defer s.lock.Unlock()
	s.keys = append([]key{{fmt.Sprintf("key-%d", len(s.keys)+1), private}}, s.keys...)
}

func main() {
	address := "127.0.0.1:" + os.Args[1]
	issuer := "http://" + address + "/"
	text, err := os.ReadFile(os.Args[2])
	check(err)
	var registered []registration
	check(json.Unmarshal(text, &registered))

	base := storage.NewStorage(storage.NewUserStore(issuer))
	kept := &store{Storage: base, clients: map[string]client{}}
	for _, each := range registered {
		kept.clients[each.ID] = client{storage.WebClient(each.ID, each.Secret), each}
	}
	kept.newKey()
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	go func() {
		for range hangups {
			kept.newKey()
		}
	}()
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	check(http.ListenAndServe(address, exampleop.SetupServer(issuer, kept, logger, false)))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
