package regtest

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcutil"
	"github.com/btcsuite/btcd/chaincfg"
	"github.com/btcsuite/btcd/txscript"
	"github.com/btcsuite/btcd/wire"
)

const (
	// payFee is what a payment leaves to the miner, in satoshis: a few of
	// them for each byte.
	payFee = 1000

	// segwitHeight is the height of the first block that may hold
	// witnesses. It takes a vote of the miners as it did on the real chain
	// (BIP 9), and three times the 144 blocks of one on regtest.
	segwitHeight = 3 * 144
)

// minerKey returns the key that miningAddr is of: the number one, which
// everybody knows.
func minerKey() *btcec.PrivateKey {
	key, _ := btcec.PrivKeyFromBytes([]byte{1})

	return key
}

// Pay pays the coins of one block, 50 BTC at first, to an address, and returns
// when the payment is in a block. It mines that block, and before it as many as
// have to pass before coins may be spent, and before there is segwit, without
// which there are no channels.
func (b *Btcd) Pay(ctx context.Context, addr string) error {
	if err := b.pay(ctx, addr); err != nil {
		return fmt.Errorf("pay to %s: %w", addr, err)
	}

	return nil
}

func (b *Btcd) pay(ctx context.Context, addr string) error {
	params := &chaincfg.RegressionNetParams
	to, err := btcutil.DecodeAddress(addr, params)
	if err != nil {
		return err
	}
	script, err := txscript.PayToAddrScript(to)
	if err != nil {
		return err
	}

	height, err := b.Height(ctx)
	if err != nil {
		return err
	}
	blocks := max(
		int(params.CoinbaseMaturity), segwitHeight-1-int(height),
	)

	// Nobody else knows of a block that is mined here and now, so that its
	// coins were not spent before.
	hashes, err := b.mine(ctx, blocks)
	if err != nil {
		return err
	}
	coinbase, err := b.coinbase(ctx, hashes[0])
	if err != nil {
		return err
	}
	tx, err := spend(coinbase, script)
	if err != nil {
		return err
	}

	if err := b.publish(ctx, tx); err != nil {
		return err
	}

	return b.Mine(ctx, 1)
}

// coinbase returns the transaction that takes the coins of a block.
func (b *Btcd) coinbase(ctx context.Context, hash string) (*wire.MsgTx,
	error) {

	const raw = "0"
	text, err := b.call(ctx, "getblock", hash, raw)
	if err != nil {
		return nil, err
	}

	var block wire.MsgBlock
	err = block.Deserialize(hex.NewDecoder(bytes.NewReader(text)))
	if err != nil {
		return nil, fmt.Errorf("decode block: %w", err)
	}
	if len(block.Transactions) == 0 {
		return nil, errors.New("a block without transactions")
	}

	return block.Transactions[0], nil
}

// spend returns the signed transaction that pays what a coinbase took to a
// script.
func spend(coinbase *wire.MsgTx, script []byte) (*wire.MsgTx, error) {
	coins, hash := coinbase.TxOut[0], coinbase.TxHash()

	tx := wire.NewMsgTx(wire.TxVersion)
	tx.AddTxIn(wire.NewTxIn(wire.NewOutPoint(&hash, 0), nil, nil))
	tx.AddTxOut(wire.NewTxOut(coins.Value-payFee, script))

	spent := txscript.NewCannedPrevOutputFetcher(
		coins.PkScript, coins.Value,
	)
	witness, err := txscript.WitnessSignature(
		tx, txscript.NewTxSigHashes(tx, spent), 0, coins.Value,
		coins.PkScript, txscript.SigHashAll, minerKey(), true,
	)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	tx.TxIn[0].Witness = witness

	return tx, nil
}

// publish hands a transaction to btcd, which puts it into the next block.
func (b *Btcd) publish(ctx context.Context, tx *wire.MsgTx) error {
	var raw bytes.Buffer
	if err := tx.Serialize(&raw); err != nil {
		return fmt.Errorf("encode transaction: %w", err)
	}
	_, err := b.call(
		ctx, "sendrawtransaction", hex.EncodeToString(raw.Bytes()),
	)

	return err
}
