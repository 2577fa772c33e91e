package account

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/fault"
)

// CreateLink makes a token that signs the operator in once, within ttl. Only
// its hash is kept: whoever gets the token has to hand it on at once. Earlier ones
// stop working. It is a fault.NotFound if there is no such operator.
func (s *Store) CreateLink(ctx context.Context, by audit.Actor, operatorID uuid.UUID, ttl time.Duration, now time.Time) (token string, err error) {
	token, hash := newToken()
	if err := s.insertLink(ctx, by, hash, operatorID, now, now.Add(ttl)); err != nil {
		return "", err
	}
	return token, nil
}

// PeekLink returns the operator whom RedeemLink would sign in. It changes
// nothing: mail scanners and browsers open links that nobody clicked.
func (s *Store) PeekLink(ctx context.Context, token string, now time.Time) (Operator, error) {
	hash, ok := hashToken(token)
	if !ok {
		return Operator{}, deadLink()
	}
	operator, err := s.linkedOperator(ctx, hash, now)
	if errors.Is(err, pgx.ErrNoRows) {
		return Operator{}, deadLink()
	}
	return operator, err
}

// RedeemLink uses the link up and returns its operator. It is fault.NotFound
// for a link that is unknown, expired or used, also when somebody else redeems
// it at the same moment, and for an operator who is disabled.
func (s *Store) RedeemLink(ctx context.Context, token string, now time.Time) (Operator, error) {
	operator, err := Operator{}, pgx.ErrNoRows
	if hash, ok := hashToken(token); ok {
		operator, err = s.useLink(ctx, hash, now)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		s.log.WarnContext(ctx, "operator_sign_in_refused", "source", "account", "reason", "dead_link")
		return Operator{}, deadLink()
	}
	if err != nil {
		return Operator{}, err
	}
	s.log.InfoContext(ctx, "operator_sign_in", "source", "account", "via", "link", "operatorId", operator.ID)
	return operator, nil
}

func deadLink() *fault.Error {
	return fault.New(fault.NotFound, "This sign-in link has expired or was used already. "+
		"Ask an admin for a new one, or run promptops operator reset on the server.")
}
