// The parts of SfuState; for its own files only.
#pragma once

#include <set>

#include "sfu/state.h"

namespace cfr::sfu {

ApiReply error_reply(int status, const char* code, const std::string& text);

// An m-section of a session. One that was rejected may be taken again for another.
struct SfuState::Section {
  enum class Role { none, push, pull };
  Role role = Role::none;
  OurSection ours;
  ClientSection client;    // as the client described it last
  std::string track_name;  // of a push, or of what is pulled
  bool closed = false;
  bool forced = false;   // closed by force: no media ever again
  bool started = false;  // a pull whose exchange is complete
  bool flowing = false;  // a pull that the forwarder serves
  int64_t alive_us = 0;  // when it became a track, or had media before a pause
  // pull
  TrackAddress source;
  std::string source_session;
  LayerChoice choice;

  void choose(const SimulcastPreference& preference) {
    choice.preferred_rid = preference.preferred_rid;
    choice.next_if_missing = preference.rid_not_available == "asciibetical";
  }
};

struct SfuState::Session {
  std::string id;
  LocalTransport local;
  int64_t created_us = 0;
  uint64_t origin_id = 0, version = 0;
  bool remote_set = false, we_are_client = false;
  RemoteTransport remote;
  bool client_bundles = true, client_mixes = true;  // by its last offer
  bool connected = false, ever_connected = false, dead = false;
  bool pending_offer = false;  // ours, not answered yet
  std::vector<Section> sections;
  std::deque<int64_t> calls;  // of the last second
  // In one BUNDLE group a number means one thing (RFC 8843, section 9).
  std::map<int, std::string> payloads;    // payload type -> codec
  std::map<int, MediaCodec> agreed;       // as the client describes them
  std::map<std::string, int> extensions;  // uri -> id

  Section* find(const std::string& mid) {
    for (Section& section : sections)
      if (section.ours.mid == mid) return &section;
    return nullptr;
  }
  std::string next_mid() const;
  std::string tagged_mid() const;            // of the section whose transport the BUNDLE group has
  int extension_id(const std::string& uri);  // 0: all numbers are taken
  // Remembers the client's extensions of a section, and drops those whose number is taken.
  void note_extensions(std::map<std::string, int>& offered);
  // The number of a codec in this session; `wish` if it is free.
  int payload_type(const std::string& codec, int wish);
  void set_remote(Hooks& hooks, const RemoteTransport& remote);
  // "" or why a description cannot be that of the client on the other end.
  const char* another_client(const RemoteTransport& remote) const;
};

}  // namespace cfr::sfu
