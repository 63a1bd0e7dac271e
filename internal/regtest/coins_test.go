package regtest

import (
	"testing"

	"github.com/btcsuite/btcd/btcutil"
	"github.com/btcsuite/btcd/chaincfg"
	"github.com/btcsuite/btcd/txscript"
	"github.com/btcsuite/btcd/wire"
	"github.com/stretchr/testify/require"
)

// minerScript returns the script that miningAddr stands for.
func minerScript(t *testing.T) []byte {
	t.Helper()

	addr, err := btcutil.DecodeAddress(
		miningAddr, &chaincfg.RegressionNetParams,
	)
	require.NoError(t, err)
	script, err := txscript.PayToAddrScript(addr)
	require.NoError(t, err)

	return script
}

// TestSpend checks by the rules of the chain that the miner's key spends what
// was mined.
func TestSpend(t *testing.T) {
	const value = 50 * btcutil.SatoshiPerBitcoin
	script := minerScript(t)
	coinbase := wire.NewMsgTx(wire.TxVersion)
	coinbase.AddTxOut(wire.NewTxOut(value, script))

	to := []byte{txscript.OP_TRUE}
	tx, err := spend(coinbase, to)
	require.NoError(t, err)
	require.Len(t, tx.TxOut, 1)
	require.Equal(t, to, tx.TxOut[0].PkScript)
	require.Equal(t, int64(value-payFee), tx.TxOut[0].Value)
	require.Equal(
		t, coinbase.TxHash(), tx.TxIn[0].PreviousOutPoint.Hash,
	)

	verify := func(value int64) error {
		spent := txscript.NewCannedPrevOutputFetcher(script, value)
		engine, err := txscript.NewEngine(
			script, tx, 0, txscript.StandardVerifyFlags, nil,
			txscript.NewTxSigHashes(tx, spent), value, spent,
		)
		require.NoError(t, err)

		return engine.Execute()
	}
	require.NoError(t, verify(value))
	require.Error(t, verify(value+1))
}

// TestPayNobody checks that coins are not paid to what is no address here.
func TestPayNobody(t *testing.T) {
	btcd := &Btcd{}
	for _, addr := range []string{
		"", "bcrt1q", "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2",
	} {
		err := btcd.Pay(t.Context(), addr)
		require.ErrorContains(t, err, "pay to "+addr)
	}
}

// TestChannelPoint checks that what lnd lists is read, and nothing else.
func TestChannelPoint(t *testing.T) {
	point, err := parseChannelPoint("c0ffee:7")
	require.NoError(t, err)
	require.Equal(t, "c0ffee", point.GetFundingTxidStr())
	require.Equal(t, uint32(7), point.OutputIndex)

	for _, text := range []string{
		"", "c0ffee", "c0ffee:", "c0ffee:x", "c0ffee:-1",
		"c0ffee:4294967296",
	} {
		_, err := parseChannelPoint(text)
		require.ErrorContains(t, err, `channel point "`+text+`"`)
	}
}
