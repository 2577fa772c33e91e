package notify

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// webhook posts JSON to any address and signs it. The receiver has to check, with
// the key that both know:
//
//	Promptops-Signature: v1=hex(HMAC-SHA256(key, timestamp + "." + body))
//
// over the header Promptops-Timestamp (seconds since 1970) and the body as it
// came, refuse timestamps that are more than some minutes old, and take a second
// delivery with the same Promptops-Delivery for the first one. Any 2xx says that
// it was taken.
type webhook struct {
	setup Setup
	opts  Options
}

func newWebhook(setup Setup, opts Options) Channel { return webhook{setup, opts} }

// webhookBody is what is posted.
type webhookBody struct {
	ID        string    `json:"id"` // of the delivery
	Purpose   string    `json:"purpose"`
	Subject   string    `json:"subject"`
	Text      string    `json:"text"`
	CreatedAt time.Time `json:"createdAt"`
}

func (w webhook) Send(ctx context.Context, d Delivery) (note string, err error) {
	body, err := json.Marshal(webhookBody{d.ID.String(), d.Purpose, cut(oneLine(d.Subject), maxSubject), cut(d.Text, maxText), d.CreatedAt.UTC()})
	if err != nil {
		return "", err
	}
	timestamp := strconv.FormatInt(time.Now().Unix(), 10)
	status, said, after, err := post(ctx, w.opts, "the webhook’s server", w.setup, body, map[string]string{
		"Promptops-Delivery": d.ID.String(), "Promptops-Timestamp": timestamp, "Promptops-Signature": Sign(w.setup.Secret, timestamp, body),
	})
	if err != nil {
		return "", err
	}
	if status >= 200 && status < 300 {
		return "", nil
	}
	f := &Failure{Words: fmt.Sprintf("The webhook’s server did not take it (status %d): it said %s.", status, quoted(said, w.setup.secrets()...)), Everybody: true, After: after}
	switch {
	case status >= 300 && status < 400:
		f.Words = fmt.Sprintf("The webhook’s server wants it sent elsewhere (status %d), which is not done: set the new address on Settings → Channels.", status)
		f.Permanent = true
	case status >= 500, status == http.StatusTooManyRequests, status == http.StatusRequestTimeout, status == http.StatusTooEarly:
	case status == http.StatusBadRequest, status == http.StatusRequestEntityTooLarge, status == http.StatusUnprocessableEntity:
		f.Permanent, f.Everybody = true, false // it is about this one
	default:
		f.Permanent = true
	}
	return "", f
}

// Sign is the signature of a body, as the receiver has to make it too.
func Sign(key Secret, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(timestamp + "."))
	mac.Write(body)
	return "v1=" + hex.EncodeToString(mac.Sum(nil))
}
