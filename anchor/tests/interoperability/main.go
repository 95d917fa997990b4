// Checks a log and its proofs with golang.org/x/mod/sumdb, which others wrote: what it says of our files is what any
// other reader of C2SP tlog-tiles would.
//
//	interoperability log FOLDER VKEY [CHECKPOINT]...   the log in a folder, and that it continues older checkpoints
//	interoperability proofs VKEY PROOF...              files in the form of C2SP tlog-proof, each for itself
//
// sumdb is older than the specifications, so three things are done here: paths have no height and call bundles
// "entries" where sumdb has "data" (tlog-tiles), bundles are gzip with a length before each entry (tlog-tiles), and the
// text of a checkpoint starts with its origin (tlog-checkpoint), where tlog.ParseTree wants the Go module database.
package main

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	height = 8
	full   = 1 << height
	// Reading through tiles proves each tile anew; in a larger log only so many entries are proved in that way as well.
	throughTiles = 1000
)

func main() {
	said, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(said)
}

func run(arguments []string) (string, error) {
	switch {
	case len(arguments) >= 3 && arguments[0] == "log":
		return checkLog(arguments[1], arguments[2], arguments[3:])
	case len(arguments) >= 3 && arguments[0] == "proofs":
		for _, file := range arguments[2:] {
			if err := checkProof(arguments[1], file); err != nil {
				return "", fmt.Errorf("%s: %w", file, err)
			}
		}
		return fmt.Sprintf("%d proofs", len(arguments)-2), nil
	default:
		return "", errors.New("usage: interoperability log FOLDER VKEY [CHECKPOINT]... | proofs VKEY PROOF...")
	}
}

// openCheckpoint checks the signature and reads the three lines.
func openCheckpoint(signed []byte, vkey string) (tlog.Tree, error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return tlog.Tree{}, err
	}
	opened, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		return tlog.Tree{}, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[3] != "" || lines[0] != verifier.Name() {
		return tlog.Tree{}, fmt.Errorf("%q is not origin, size and root", opened.Text)
	}
	size, err := decimal(lines[1])
	if err != nil {
		return tlog.Tree{}, err
	}
	root, err := tlog.ParseHash(lines[2])
	return tlog.Tree{N: size, Hash: root}, err
}

func decimal(text string) (int64, error) {
	number, err := strconv.ParseInt(text, 10, 64)
	if err != nil || number < 0 || strconv.FormatInt(number, 10) != text {
		return 0, fmt.Errorf("%q is not a decimal without leading zeroes", text)
	}
	return number, nil
}

// folder reads the tiles of a log.
type folder struct {
	path  string
	known map[string][]byte
}

func (f folder) read(tile tlog.Tile) ([]byte, error) {
	path := strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
	path = strings.Replace(path, "tile/data/", "tile/entries/", 1)
	if known, ok := f.known[path]; ok {
		return known, nil
	}
	data, err := os.ReadFile(filepath.Join(f.path, filepath.FromSlash(path)))
	f.known[path] = data
	return data, err
}

func (f folder) Height() int { return height }

func (f folder) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	for i, tile := range tiles {
		read, err := f.read(tile)
		if err != nil {
			return nil, err
		}
		if len(read) != tile.W*tlog.HashSize {
			return nil, fmt.Errorf("%s has %d bytes", tile.Path(), len(read))
		}
		data[i] = read
	}
	return data, nil
}

func (f folder) SaveTiles([]tlog.Tile, [][]byte) {}

// entries reads the bundle that holds the entries from first on.
func (f folder) entries(first, size int64) ([][]byte, error) {
	width := size - first
	if width > full {
		width = full
	}
	tile := tlog.Tile{H: height, L: -1, N: first / full, W: int(width)}
	file, err := f.read(tile)
	if err != nil {
		return nil, err
	}
	reader, err := gzip.NewReader(bytes.NewReader(file))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", tile.Path(), err)
	}
	bundle, err := io.ReadAll(reader)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", tile.Path(), err)
	}
	var entries [][]byte
	for len(bundle) > 0 {
		if len(bundle) < 2 || len(bundle) < 2+int(binary.BigEndian.Uint16(bundle)) {
			return nil, fmt.Errorf("%s does not consist of entries with their lengths", tile.Path())
		}
		end := 2 + int(binary.BigEndian.Uint16(bundle))
		entries = append(entries, bundle[2:end])
		bundle = bundle[end:]
	}
	if int64(len(entries)) != width {
		return nil, fmt.Errorf("%s has %d entries", tile.Path(), len(entries))
	}
	return entries, nil
}

func checkLog(path, vkey string, older []string) (string, error) {
	signed, err := os.ReadFile(filepath.Join(path, "checkpoint"))
	if err != nil {
		return "", err
	}
	tree, err := openCheckpoint(signed, vkey)
	if err != nil {
		return "", fmt.Errorf("checkpoint: %w", err)
	}
	files := folder{path, map[string][]byte{}}

	// The tree as the entries give it.
	var stored []tlog.Hash
	given := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		hashes := make([]tlog.Hash, len(indexes))
		for i, index := range indexes {
			hashes[i] = stored[index]
		}
		return hashes, nil
	})
	var leaves []tlog.Hash
	for int64(len(leaves)) < tree.N {
		entries, err := files.entries(int64(len(leaves)), tree.N)
		if err != nil {
			return "", err
		}
		for _, entry := range entries {
			hashes, err := tlog.StoredHashes(int64(len(leaves)), entry, given)
			if err != nil {
				return "", err
			}
			stored = append(stored, hashes...)
			leaves = append(leaves, tlog.RecordHash(entry))
		}
	}
	root, err := tlog.TreeHash(tree.N, given)
	if err != nil {
		return "", err
	}
	if root != tree.Hash {
		return "", errors.New("the entries do not give the root of the checkpoint")
	}

	tiles := 0
	for _, tile := range tlog.NewTiles(height, 0, tree.N) {
		// It also names the partial tiles of smaller trees, which need not be there any more.
		if hashes := tree.N >> uint(height*tile.L); tile.W < full && tile.N*full+int64(tile.W) != hashes {
			continue
		}
		wanted, err := tlog.ReadTileData(tile, given)
		if err != nil {
			return "", err
		}
		data, err := files.read(tile)
		if err != nil {
			return "", err
		}
		if !bytes.Equal(data, wanted) {
			return "", fmt.Errorf("%s is not what the entries give", tile.Path())
		}
		tiles++
	}

	read := tlog.TileHashReader(tree, files)
	step := tree.N/throughTiles + 1
	for index, leaf := range leaves {
		readers := []tlog.HashReader{given}
		if int64(index)%step == 0 || int64(index) == tree.N-1 {
			readers = append(readers, read)
		}
		for _, reader := range readers {
			proof, err := tlog.ProveRecord(tree.N, int64(index), reader)
			if err != nil {
				return "", fmt.Errorf("entry %d: %w", index, err)
			}
			if err := tlog.CheckRecord(proof, tree.N, tree.Hash, int64(index), leaf); err != nil {
				return "", fmt.Errorf("entry %d: %w", index, err)
			}
		}
	}

	for _, file := range older {
		if err := checkContinues(file, vkey, tree, read); err != nil {
			return "", fmt.Errorf("%s: %w", file, err)
		}
	}
	return fmt.Sprintf("%d entries, %d tiles, %d older checkpoints", len(leaves), tiles, len(older)), nil
}

func checkContinues(file, vkey string, tree tlog.Tree, reader tlog.HashReader) error {
	signed, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	older, err := openCheckpoint(signed, vkey)
	if err != nil {
		return err
	}
	proof, err := tlog.ProveTree(tree.N, older.N, reader)
	if err != nil {
		return err
	}
	return tlog.CheckTree(proof, tree.N, tree.Hash, older.N, older.Hash)
}

// checkProof checks a file of C2SP tlog-proof. Its extra data holds the entry, which only the proof itself vouches for.
func checkProof(vkey, path string) error {
	file, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head, checkpoint, found := strings.Cut(string(file), "\n\n")
	lines := strings.Split(head, "\n")
	if !found || len(lines) < 3 || lines[0] != "c2sp.org/tlog-proof@v1" {
		return errors.New("it does not start as a proof does")
	}
	extra, isExtra := cutPrefix(lines[1], "extra ")
	index, isIndex := cutPrefix(lines[2], "index ")
	if !isExtra || !isIndex {
		return errors.New("it lacks extra data or index")
	}
	opaque, err := base64.StdEncoding.Strict().DecodeString(extra)
	if err != nil {
		return err
	}
	var members struct{ Entry string }
	if err := json.Unmarshal(opaque, &members); err != nil {
		return err
	}
	place, err := decimal(index)
	if err != nil {
		return err
	}
	var proof tlog.RecordProof
	for _, line := range lines[3:] {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return err
		}
		proof = append(proof, hash)
	}
	tree, err := openCheckpoint([]byte(checkpoint), vkey)
	if err != nil {
		return err
	}
	return tlog.CheckRecord(proof, tree.N, tree.Hash, place, tlog.RecordHash([]byte(members.Entry)))
}

func cutPrefix(text, prefix string) (string, bool) {
	return strings.TrimPrefix(text, prefix), strings.HasPrefix(text, prefix)
}
