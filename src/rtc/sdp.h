// What the two ends of a connection have agreed upon, section by section, and the two texts of each
// description: the one for the wire and the one for webrtcbin, which since it is easily upset gets
// a tidy version without rejected, inactive or half-specified sections (see docs/webrtcbin.md).
// Pure: text in, text out; one instance per connection, bound to one thread.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "rtc/sdp_text.h"
#include "util/result.h"

namespace cfr {

// The RTP header extensions (RFC 8285) that we offer, with the ids we give them.
struct RtpExtension {
  int id;
  const char* uri;
  bool audio, video;
};
inline constexpr const char* kMidExtension = "urn:ietf:params:rtp-hdrext:sdes:mid";
inline constexpr std::array<RtpExtension, 4> kRtpExtensions = {{
    {1, "urn:ietf:params:rtp-hdrext:ssrc-audio-level", true, false},  // RFC 6464
    {2, "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time", true, true},
    {3, "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01", true, true},
    {4, kMidExtension, true, true},  // RFC 8843
}};

// A track of ours, as its packets will be.
struct SdpTrack {
  uint32_t id = 0;
  std::string name;
  std::string kind;  // audio, video
  uint32_t ssrc = 0;
  SdpFormat format;  // without feedback; that is ours to say
};

class SdpDialog {
 public:
  // `token`: random, stands for us as cname and stream id. `receivable`: encoding names in upper
  // case that we can take. `random`: yields the SSRCs of retransmissions.
  SdpDialog(std::string token, std::set<std::string> receivable, uint32_t (*random)());

  struct Texts {
    std::string wire;
    std::string inner;  // for webrtcbin
  };

  // Gives the track a section in the next offer; returns its mid. Error peer if its payload type
  // means something else on this connection.
  Result<std::string> add_track(const SdpTrack& track);
  bool has_track(uint32_t id) const;
  std::optional<std::string> mid_of(uint32_t track) const;
  // The payload type the SFU wants for the track's packets if its answer renumbered the codec.
  std::optional<int> renumbered(uint32_t track) const;
  // The SSRCs of our tracks and of their retransmissions.
  struct Repair {
    uint32_t ssrc = 0, rtx_ssrc = 0;
  };
  std::vector<Repair> repairs() const;

  // `generated`: what webrtcbin made for the same sections; credentials, fingerprint and names are
  // taken from it. The candidates (without "a=") go on the wire.
  Result<Texts> offer(const std::string& generated);
  Result<Texts> answer(const std::string& generated);
  // Puts candidates into the first section of a text for the wire.
  static std::string with_candidates(const std::string& wire,
                                     const std::vector<std::string>& candidates);

  struct Remote {
    std::string inner;
    std::vector<std::string> rejected_mids;
  };
  // Errors: protocol (not usable), rejected (an answer that takes nothing, and so has no transport
  // either), gone (asks for what webrtcbin cannot do on a live connection: an ICE restart, another
  // certificate, other media in an old section).
  Result<Remote> remote_answer(const std::string& text);
  Result<Remote> remote_offer(const std::string& text);

  // `inactive` on the wire from now on.
  void close(const std::string& mid);
  // The SFU sends again in a section of its own that was closed.
  void reopen(const std::string& mid);
  // Whether packets of this SSRC, which were the section's before, may be so again.
  bool may_carry(const std::string& mid, uint32_t ssrc) const;

  // Whose section a packet belongs to: by announced SSRC, else by the MID it carries, else if only
  // one section can be meant. `taken`: mids that have media already. "" = unknown.
  std::string section_of(uint32_t ssrc, const std::string& packet_mid, int payload,
                         const std::set<std::string>& taken) const;
  int mid_extension_id() const { return mid_extension_id_; }  // 0 = not negotiated
  // Whether lost packets of this section may be asked for again.
  bool repairs_section(const std::string& mid) const;
  // Whether this PEM certificate is the one the other side's descriptions announced (RFC 8122).
  bool is_remote_certificate(const std::string& pem) const;

 private:
  enum class Role { unknown, active, passive };
  // An m-line.
  struct Entry {
    std::string mid;
    std::string kind;
    bool ours = false;      // we send, the SFU receives; else the other way round
    bool closed = false;    // by close(), or offered by the SFU without media
    bool rejected = false;  // port 0 on the wire
    SdpTrack track;         // ours
    uint32_t rtx_ssrc = 0;  // ours
    int wire_payload = -1;  // ours, from the answer
    SdpSection local;       // our side, without transport and direction; no formats = unusable
    std::set<uint32_t> announced;  // theirs: a=ssrc
  };

  Entry* entry(const std::string& mid);
  const Entry* live_entry(const std::string& mid) const;
  int free_payload(int wish) const;
  // The a=extmap, a=msid, payload type and a=ssrc lines of a track of ours.
  void describe_track(Entry& entry);
  // What we answer to a section with media for us; false if there is nothing we can receive.
  bool describe_received(Entry& entry, const SdpSection& offered);
  std::optional<Error> learn_generated(const std::string& generated);
  std::optional<Error> learn_remote(const SdpText& sdp, bool is_offer);
  Texts local_texts(bool is_offer);
  // Session and section lines that every description for webrtcbin has, ours or the SFU's.
  SdpText inner_frame() const;
  std::string inner_remote(const std::vector<SdpSection>& bodies, bool is_offer) const;
  SdpSection placeholder(const Entry& entry) const;

  const std::string token_;
  const std::set<std::string> receivable_;
  uint32_t (*const random_)();

  std::vector<Entry> entries_;
  Role role_ = Role::unknown;          // ours in DTLS
  std::map<int, SdpFormat> payloads_;  // what each payload type means on this connection
  std::map<int, int> rtx_payloads_;    // ours: media -> rtx
  uint64_t version_ = 0;
  std::string session_id_, ufrag_, pwd_, fingerprint_;  // ours
  std::string remote_ufrag_, remote_pwd_, remote_fingerprint_, remote_algorithm_;
  bool remote_lite_ = false;
  std::vector<std::string> remote_candidates_;
  int mid_extension_id_ = 0;
};

}  // namespace cfr
